"""For development: `python -m commands.token ana` prints a token for the viewer ana."""

import sys
from argparse import ArgumentParser

from commands.console import run_main
from edge.dev_tokens import DevelopmentIssuer
from runtime.lifecycle import CANNOT_START, STOPPED, print_error
from settings import PREFIX, SettingsError, read_settings


def main(arguments: list[str]) -> int:
    """Print a token for the named viewer. Return 2 if that is not possible."""
    parser = ArgumentParser(prog="python -m commands.token", description=__doc__)
    parser.add_argument("name", help="the viewer's name: the `sub` of the token")
    name = parser.parse_args(arguments).name
    try:
        settings = read_settings()
        if settings.environment != "development":
            raise SettingsError(
                [f"{PREFIX}ENVIRONMENT is production: its tokens come from {PREFIX}TOKEN_ISSUER."]
            )
        token = DevelopmentIssuer(settings.data_dir).token(name)
    except SettingsError as error:
        print_error(error)
        return CANNOT_START
    except (ValueError, OSError) as error:
        print_error(f"No token: {error}.")
        return CANNOT_START
    print(token)
    return STOPPED


if __name__ == "__main__":
    sys.exit(run_main(main))
