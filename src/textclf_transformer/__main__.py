"""``python -m textclf_transformer VERB``: the same as ``textclf VERB``."""

from textclf_transformer.commands.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
