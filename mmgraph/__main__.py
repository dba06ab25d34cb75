"""``python -m mmgraph``."""
import sys

from mmgraph.cli import main

sys.exit(main())
