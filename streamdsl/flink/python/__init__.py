"""Python code of a topology on Flink: what is called there, how rows come and go, and the doors of PyFlink."""
