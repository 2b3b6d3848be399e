"""A plugin for container runtimes: sgdataplane as a step of a CNI network (type `sgdataplane`)."""
