"""Detectors, one file a backend; importing this registers them all, and their libraries load when one is built."""

from bmp.detectors import lite as lite
