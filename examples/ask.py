from sgdataplane import decide, expect, load

state = load("db.yaml")
decision = decide(state, "192.0.2.10", "db", "tcp/5432")
print(decision.verdict.value, decision.security_group_rule_id)
expect(state, "192.0.2.10 -> db tcp/5432 accept", "198.51.100.7 -> db tcp/22,icmp drop")
