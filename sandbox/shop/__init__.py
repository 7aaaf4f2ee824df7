"""The sandbox merchant: a small course shop built the way a careful merchant builds one, and its faults."""
