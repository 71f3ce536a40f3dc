"""The job on Kafka under load: broker, job and an open-loop generator, each a process of its own, on one machine.

`python -m benchmarks.kafka [--quick] [--only CASE] [--json]`
"""
