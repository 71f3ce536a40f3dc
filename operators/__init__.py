"""What stands in a flow: viewers, posts, the slate, and the pipeline of sources, filters and scorers."""
