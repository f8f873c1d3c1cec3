"""A topology as a job of Apache Flink: the logical plan as Flink SQL."""
