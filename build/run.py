#!/usr/bin/env python3
"""Installs berth into .venv if it is not there, and runs it: `python3 build/run.py [ARGUMENT…]`."""

import os
import sys

import environment

if __name__ == "__main__":
    environment.ensure()
    berth = str(environment.BIN / "berth")
    os.execv(berth, [berth, *sys.argv[1:]])
