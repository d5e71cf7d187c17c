# Cross-builds for Apple silicon with zig (package ziglang), without Apple's SDK:
#   cmake -DCMAKE_TOOLCHAIN_FILE=tools/macos/toolchain.cmake -DTFMETAL_PYTHON=... ...
# CMakeLists.txt then takes the same branch as on a Mac. zig has the headers of libSystem and libc++;
# stubs/ lists what we need of Apple's other libraries: names, nothing else.
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_PROCESSOR arm64)

# A single file is the compiler, which names zig's version, so that ccache knows it by its content.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES TFMETAL_ZIG)
if(NOT TFMETAL_ZIG)
  execute_process(
    COMMAND ${TFMETAL_PYTHON} -c
            "import ziglang, importlib.metadata as m; print(ziglang.__path__[0], m.version('ziglang'), sep=';')"
    OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  list(GET found 0 folder)
  list(GET found 1 version)
  set(TFMETAL_ZIG ${CMAKE_BINARY_DIR}/zig-c++)
  file(CONFIGURE OUTPUT ${TFMETAL_ZIG} @ONLY CONTENT [[#!/bin/sh
# zig @version@
exec "@folder@/zig" c++ -target aarch64-macos.@CMAKE_OSX_DEPLOYMENT_TARGET@ "$@"
]])
  file(CHMOD ${TFMETAL_ZIG} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
endif()
set(CMAKE_CXX_COMPILER ${TFMETAL_ZIG})
get_filename_component(bin "${TFMETAL_PYTHON}" DIRECTORY)
find_program(CCACHE ccache HINTS ${bin})
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_COMPILERCHECK=content
      CCACHE_COMPILERTYPE=clang ${CCACHE})
endif()

# zig writes debug information unless told not to; that of its own libc++ (-s) names folders.
set(CMAKE_CXX_FLAGS_INIT -g0)
set(stubs ${CMAKE_CURRENT_LIST_DIR}/stubs)
foreach(kind SHARED EXE)
  set(CMAKE_${kind}_LINKER_FLAGS_INIT "-s -L${stubs} -F${stubs}")
endforeach()
set(CMAKE_INSTALL_NAME_TOOL none)  # CMake insists on one, and does not need it
# What zig's linker cannot do: see there.
set(TFMETAL_NEW_DELETE ${CMAKE_CURRENT_LIST_DIR}/new_delete.cc)
set(TFMETAL_SEAL ${CMAKE_CURRENT_LIST_DIR}/seal.py)
