"""Sends Ansible's modules for Alibaba Cloud to the API that SGDP_API names.

These modules call the cloud by its older SDK for Python, which reads no endpoint from the environment. Python runs this
file when it starts, if its folder is in PYTHONPATH.
"""

import os
from urllib.parse import urlsplit

API = urlsplit(os.environ.get("SGDP_API", ""))
if API.netloc:
    from aliyunsdkcore import request
    from aliyunsdkcore.http import protocol_type
    from aliyunsdkcore.profile import region_provider

    request.set_default_protocol_type(protocol_type.HTTPS if API.scheme == "https" else protocol_type.HTTP)
    for product in ("Ecs", "Vpc"):
        region_provider.modify_point(product, os.environ["ALICLOUD_REGION"], API.netloc)
