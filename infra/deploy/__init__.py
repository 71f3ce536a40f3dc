"""What a deployment is made of: the image, compose, Kubernetes, Prometheus and Grafana."""
