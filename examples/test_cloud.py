def test_the_port_is_open(sgdp_api):
    group = sgdp_api.ask("CreateSecurityGroup", SecurityGroupName="web")["SecurityGroupId"]
    rule = {"IpProtocol": "tcp", "PortRange": "443/443", "SourceCidrIp": "0.0.0.0/0"}
    sgdp_api.ask("AuthorizeSecurityGroup", SecurityGroupId=group, Permissions=[rule])
    found = sgdp_api.ask("DescribeSecurityGroupAttribute", SecurityGroupId=group)
    assert [one["PortRange"] for one in found["Permissions"]["Permission"]] == ["443/443"]


def test_it_begins_with_a_state(sgdp_api, sg_state):
    sgdp_api.reset(sg_state)
    found = sgdp_api.ask("DescribeSecurityGroupAttribute", SecurityGroupId="sg-db")
    assert [one["PortRange"] for one in found["Permissions"]["Permission"]] == ["5432/5432"]
