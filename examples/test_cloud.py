def test_the_port_is_open(sgdp_api):
    group = sgdp_api.ask("CreateSecurityGroup", SecurityGroupName="web")["SecurityGroupId"]
    rule = {"IpProtocol": "tcp", "PortRange": "443/443", "SourceCidrIp": "0.0.0.0/0"}
    sgdp_api.ask("AuthorizeSecurityGroup", SecurityGroupId=group, Permissions=[rule])
    found = sgdp_api.ask("DescribeSecurityGroupAttribute", SecurityGroupId=group)
    assert [one["PortRange"] for one in found["Permissions"]["Permission"]] == ["443/443"]
