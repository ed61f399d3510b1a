"""Tests of the whole: each folder says what it holds."""
