"""As much of Objective-C and Metal as the plugin asks for while TensorFlow loads it: one device.

Nothing computes. A message that is not here is a Fault that names it.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.emulator.machine import Fault, Machine

DEVICE_NAME = "Apple host"  # as plugin/host has it
MEMORY = 8 << 30  # bytes of the device, any amount


class ObjectiveC:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._selectors: dict[str, int] = {}
        self._texts: dict[int, int] = {}
        self._device = machine.new_data(8)
        self._functions: dict[str, Callable] = {
            "sel_registerName": self._selector,
            "objc_msgSend": self._send,
            "objc_retain": lambda object: object,
            "objc_release": lambda object: None,
            "objc_autoreleasePoolPush": lambda: 1,
            "objc_autoreleasePoolPop": lambda pool: None,
            "MTLCreateSystemDefaultDevice": lambda: self._device,
        }
        self._device_messages = {
            "name": lambda: self._text(DEVICE_NAME),
            "recommendedMaxWorkingSetSize": lambda: MEMORY,
            "maxBufferLength": lambda: MEMORY,
        }

    def find(self, name: str) -> int:
        """The address of a function of libobjc or Metal, or 0."""
        body = self._functions.get(name)
        return self._machine.function(name, body) if body else 0

    def _selector(self, name: int) -> int:
        text = self._machine.text(name).decode()
        if text not in self._selectors:
            self._selectors[text] = self._machine.new_text(text)
        return self._selectors[text]

    def _text(self, text: str) -> int:
        string = self._machine.allocate(8)
        self._texts[string] = self._machine.new_text(text)
        return string

    def _send(self, receiver: int, selector: int) -> int:
        message = self._machine.text(selector).decode()
        if receiver == self._device and message in self._device_messages:
            return self._device_messages[message]()
        if receiver in self._texts and message == "UTF8String":
            return self._texts[receiver]
        raise Fault(f"{receiver:#x} does not understand {message}")
