"""Apache Kafka in the tests: a broker of this run's own, three of them, and what tests ask of them."""
