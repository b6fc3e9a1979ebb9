"""`python -m nereus` is the same command as `nereus`."""

from nereus.cli import main

raise SystemExit(main())
