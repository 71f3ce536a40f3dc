"""Visibility: declared rules that show a post, put it behind a notice, or drop it (x-algorithm.md 1.7)."""

from operators.visibility.rules import DEFAULT, Rule, VisibilityRefused, VisibilityRules
from operators.visibility.verdicts import ViewerRules

__all__ = ["DEFAULT", "Rule", "ViewerRules", "VisibilityRefused", "VisibilityRules"]
