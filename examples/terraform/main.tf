# A network with a web server's group and a database's, for docs/terraform.md. The provider finds the API by the variables
# that `sgdp api env` prints.
terraform {
  required_providers {
    alicloud = { source = "aliyun/alicloud", version = "1.246.2" }
  }
}

resource "alicloud_vpc" "shop" {
  vpc_name   = "shop"
  cidr_block = "10.20.0.0/16"
}

resource "alicloud_vswitch" "shop" {
  vpc_id     = alicloud_vpc.shop.id
  cidr_block = "10.20.1.0/24"
  zone_id    = "cn-hangzhou-h"
}

resource "alicloud_security_group" "web" {
  security_group_name = "web"
  vpc_id              = alicloud_vpc.shop.id
}

resource "alicloud_security_group" "db" {
  security_group_name = "db"
  vpc_id              = alicloud_vpc.shop.id
}

resource "alicloud_security_group_rule" "db_from_web" {
  security_group_id        = alicloud_security_group.db.id
  type                     = "ingress"
  ip_protocol              = "tcp"
  port_range               = "5432/5432"
  source_security_group_id = alicloud_security_group.web.id
}

resource "alicloud_instance" "shop" {
  for_each        = { web1 = alicloud_security_group.web.id, db1 = alicloud_security_group.db.id }
  instance_name   = each.key
  security_groups = [each.value]
  vswitch_id      = alicloud_vswitch.shop.id
  instance_type   = "ecs.g7.large"
  image_id        = "debian_12_6_x64_20G_alibase_20240711.vhd"
}
