"""The entry point. Heavy modules are imported inside the commands, so that help is instant.

Progress and warnings go to standard error, results to standard output; ``--json`` prints one
JSON object. Exit status: 0 all done, 1 some or all inputs failed, 2 usage, study or bundle error.
"""

from __future__ import annotations

import os
import sys

import typer

from ae_pipeline.cli import models, operation, samples, servers, studies
from ae_pipeline.cli.console import err, report_error
from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError
from ae_pipeline.runtime.messages import configure

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Autoencoders for EEG recordings, images and questionnaires: what is normal in your "
    "data, and what is not.",
)
data = typer.Typer(no_args_is_help=True, help="Real sample data sets, verified by digest.")
app.add_typer(data, name="data")
data.command("list")(samples.data_list)
data.command("fetch")(samples.data_fetch)

for command in (  # in the order of ``--help``
    studies.init,
    studies.validate,
    studies.train,
    models.score,
    studies.compare,
    models.calibrate,
    models.generate,
    models.complete,
    models.evaluate,
    samples.demo,
    operation.status,
    operation.run_inbox,
    operation.why,
    operation.retrain,
    operation.promote,
    servers.serve,
    servers.up,
    operation.clean,
    servers.ui,
):
    app.command()(command)


def main() -> None:
    """Run a command; errors that a user can fix are one line each, without a traceback."""
    # Threads that wait for each other by computing keep others from it: beside other work, two
    # took twenty times longer than one. This many rounds cost nothing where the machine is ours.
    # It is read when PyTorch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        configure()
        sys.exit(app(standalone_mode=False) or 0)
    except (StudyError, InputError) as error:
        err(f"error: {error}")
        sys.exit(2 if isinstance(error, StudyError) else 1)
    except KeyboardInterrupt:
        err("interrupted; run the same command again to go on from where it was")
        sys.exit(130)
    except Exception as error:
        sys.exit(report_error(error))
