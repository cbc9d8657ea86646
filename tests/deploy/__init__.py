"""What is shipped beside the package: alerts, dashboards."""
