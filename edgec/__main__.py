"""`python -m edgec`."""

from edgec.cli import main

raise SystemExit(main())
