"""`python -m demo up|down`: what `make demo` and `make demo-down` run."""

from demo.story import main

raise SystemExit(main())
