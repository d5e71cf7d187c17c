// The Objective-C runtime asked about its methods: what a selftest compares with what the plugin
// sends (plugin/audit.cc).
#pragma once

#include "plugin/metal/objc.h"

struct objc_method;
struct objc_protocol;
struct objc_method_description {
  SEL name;
  char* types;
};

extern "C" {
Class objc_lookUpClass(const char* name);  // nil when there is none
objc_method* class_getInstanceMethod(Class c, SEL selector);
objc_method* class_getClassMethod(Class c, SEL selector);
const char* method_getTypeEncoding(const objc_method* method);
objc_protocol* objc_getProtocol(const char* name);
objc_method_description protocol_getMethodDescription(objc_protocol* protocol, SEL selector,
                                                      bool required, bool instance);
}
