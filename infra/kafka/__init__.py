"""Kafka: the table of topics, clients' settings, record headers, and a broker for tests and developers."""


class KafkaRefused(ValueError):
    """What Kafka, its settings or its topics don't allow; the message is one sentence for people."""
