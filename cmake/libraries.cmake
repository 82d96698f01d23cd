# Every outside library behind one name, `lib::NAME`, so that rooms list what they stand on in one word.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(CLI11 REQUIRED)
find_package(GTest REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)

# LibTorch: from the project's own .venv unless Torch_DIR says otherwise.
if(NOT Torch_DIR)
  file(GLOB wheel_torch ${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch/share/cmake/Torch)
  if(NOT wheel_torch)
    message(FATAL_ERROR "LibTorch not found: run `make setup`, or pass -DTorch_DIR=.../share/cmake/Torch")
  endif()
  set(Torch_DIR ${wheel_torch})
endif()
find_package(Torch REQUIRED)

function(backburn_library name)
  add_library(lib_${name} INTERFACE)
  target_link_libraries(lib_${name} INTERFACE ${ARGN})
  add_library(lib::${name} ALIAS lib_${name})
endfunction()

backburn_library(nlohmann_json nlohmann_json::nlohmann_json)
backburn_library(yaml_cpp yaml-cpp Threads::Threads)
backburn_library(pcre2 PkgConfig::PCRE2)
backburn_library(utf8proc PkgConfig::UTF8PROC)
backburn_library(openssl_crypto OpenSSL::Crypto)
backburn_library(cli11 CLI11::CLI11)
backburn_library(gtest GTest::gmock GTest::gtest GTest::gtest_main)

# fmt is used header-only: LibTorch ships its own copy of the headers, and its library is not ours.
backburn_library(fmt_headers)
target_compile_definitions(lib_fmt_headers INTERFACE FMT_HEADER_ONLY=1)

backburn_library(torch ${TORCH_LIBRARIES})
target_include_directories(lib_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
separate_arguments(torch_flags UNIX_COMMAND "${TORCH_CXX_FLAGS}")
target_compile_options(lib_torch INTERFACE ${torch_flags})
