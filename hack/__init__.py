"""Tools of the maintainers: what writes generated files and checks the chart. Nothing here is installed."""
