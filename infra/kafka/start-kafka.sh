#!/usr/bin/env sh
# Runs Apache Kafka in the foreground, for a developer without Docker: prints its address, Ctrl-C stops it.
# The first start downloads Kafka with Maven; data and log stay in out/kafka. See --help.
set -eu
cd "$(dirname "$0")/../.."
exec "${PYTHON:-.venv/bin/python}" -m infra.kafka.broker "$@"
