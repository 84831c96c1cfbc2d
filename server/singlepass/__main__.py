"""The command `singlepass`. `serve` takes the short way past the command line's imports: an editor waits."""

import gc
import sys


def main() -> None:
    """Entry point of the console script."""
    if sys.argv[1:2] == ["serve"] and not {"--help", "-h"} & set(sys.argv):
        gc.disable()  # until all is imported: none of it is garbage, and looking costs a tenth of the start
        from singlepass.lsp.app import serve

        sys.exit(serve())
    from singlepass.cli import app
    from singlepass.cli.output import run

    run(app)


if __name__ == "__main__":
    main()
