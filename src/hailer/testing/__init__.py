"""What tests of programs on hailer are made of: suites that your own parts have to pass, and stand-ins."""
