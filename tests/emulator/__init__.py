"""Runs the library for arm64 macOS on any machine: see docs/emulator.md."""
