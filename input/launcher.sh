#!/bin/sh
# launcher.sh — start the Python module @MODULE@ from the installation that this file belongs to. `make install` puts a
# copy of it, with a module's name filled in, into bin/ for each command. Environment: MDLM_PYTHON (python3).
here=$(dirname "$(readlink -f "$0")")
PYTHONPATH=$here/../share/mdlm/python${PYTHONPATH:+:$PYTHONPATH} exec "${MDLM_PYTHON:-python3}" -m @MODULE@ "$@"
