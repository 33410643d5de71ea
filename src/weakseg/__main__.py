"""``python -m weakseg``: what dvc.yaml calls."""

from weakseg.cli import main

main()
