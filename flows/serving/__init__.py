"""The For You dataflow as a job on Kafka: state that survives, answers sent once, and what keeps it running."""
