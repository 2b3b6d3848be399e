from sgdataplane import Lab

with Lab("db.yaml") as lab:
    lab.expect("198.51.100.7 -> db tcp/5432 drop")
    result = lab.probe("198.51.100.7", "db", "tcp/5432")
    print(result.observed.verdict, result.expected.verdict)
    lab.apply("office.yaml")  # another policy; sessions that it drops stop
    lab.matrix("tcp/22,icmp")  # every pair of nodes
