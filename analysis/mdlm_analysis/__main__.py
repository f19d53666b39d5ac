"""python -m mdlm_analysis COMMAND"""

import sys

from mdlm_analysis.cli import main

if __name__ == "__main__":
    sys.exit(main())
