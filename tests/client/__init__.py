"""Tests of the client and its commands."""
