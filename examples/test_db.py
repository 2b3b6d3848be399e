def test_only_the_office_reaches_the_database(sg_expect):
    sg_expect("192.0.2.10 -> db tcp/5432 accept sgr-office")
    sg_expect("198.51.100.7 -> db tcp/5432 drop")


def test_packets_obey(sg_lab):
    sg_lab.expect("198.51.100.7 -> db tcp/5432 drop")
