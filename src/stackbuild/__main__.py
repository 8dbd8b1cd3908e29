"""`python -m stackbuild`."""

import sys

from stackbuild.cli.main import main

sys.exit(main())
