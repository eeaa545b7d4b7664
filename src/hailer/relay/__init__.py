"""The relay: programs and people dial out to one server and talk by name."""
