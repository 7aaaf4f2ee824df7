"""A gateway that speaks iKhokha's protocol on loopback, with faults to switch on."""
