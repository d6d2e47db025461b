"""`python -m settings` prints `.env.example`, `python -m settings --table` the same as Markdown."""

import sys

from settings.settings import Settings
from settings.variables import env_example, markdown_table

write = markdown_table if "--table" in sys.argv[1:] else env_example
sys.stdout.write(write(Settings))
