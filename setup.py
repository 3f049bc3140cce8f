"""Maps the generated protocol package, which lives under protos/, into the distribution."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["shared*", "coordinator*", "participant*", "simulations*"]),
        "alliance",
        "alliance.v1",
    ],
    package_dir={"alliance": "protos/alliance"},
)
