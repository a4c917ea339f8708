"""The proxy as a list of addons: `mitmdump -s addon/main.py`. What each one does stands in its own file."""

from addon.commands import Commands
from addon.intercept import Intercept
from addon.logs import Logs
from addon.options import Options
from addon.other_machines import OtherMachines
from addon.own_ca import OwnCa
from addon.policy_commands import PolicyCommands
from addon.services import Services
from addon.virtual_server import VirtualServers

options = Options()
services = Services(options)
servers = VirtualServers()

addons = [
    options,
    Logs(options, services),
    OwnCa(),
    services,
    servers,
    OtherMachines(),
    Intercept(services, servers),
    PolicyCommands(services, options),
    Commands(services, options),
]
