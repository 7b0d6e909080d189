"""`graphdrl serve oracle`: the oracle for many trainers, until it is stopped."""

import time
from typing import Annotated

import typer

from graphdrl.cli.configs import Words, split_words
from graphdrl.cli.status import status

app = typer.Typer(help="The oracle for many trainers: serve it, or see how it does.", no_args_is_help=True)
app.command("status")(status)


@app.command("oracle")
def oracle(
    words: Words = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to serve on; none: a private one.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Also open an HTTP door on this port.")] = None,
    host: Annotated[
        str, typer.Option(help="Address that the HTTP door listens on; it speaks plain HTTP.")
    ] = "127.0.0.1",
) -> None:
    """Serve the oracle until Ctrl-C; trainers on the same cluster find it by itself."""
    from cluster import address as cluster_address
    from cluster import joined, num_gpus
    from graphdrl.config import load_config
    from jobs import start_application, wait_for_application

    path, overrides = split_words(words)
    config = load_config(path, overrides)
    with joined(address):
        settings = start_application(config, min(1, num_gpus()), http_port=port, http_host=host)
        wait_for_application()
        typer.echo(
            f"the oracle ({config.oracle.model}) answers; trainers find it with RAY_ADDRESS={cluster_address()}; "
            "stop it with Ctrl-C"
        )
        if port is not None:
            typer.echo(f"its HTTP door is at http://{host}:{port}/oracle; the key is {settings.where_key()}")
        while True:
            time.sleep(3600)
