"""Commands that print one table each: peers and limits in the same run, medians with spread."""
