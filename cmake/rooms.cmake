# A room is a folder of src/backburn, one static library `room::NAME`, one test binary `test_NAME` (tests/NAME/*_test.cc).
set(BACKBURN_WARNINGS -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor -Woverloaded-virtual)
if(BACKBURN_WERROR)
  list(APPEND BACKBURN_WARNINGS -Werror)
endif()

function(backburn_compile target)
  target_compile_options(${target} PRIVATE ${BACKBURN_WARNINGS})
  if(BACKBURN_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=all)
    target_link_options(${target} PRIVATE -fsanitize=address,undefined)
  endif()
endfunction()

# backburn_precompile(TARGET PRIVATE header... | REUSE_FROM target): LibTorch's headers are most of what a compiler reads. A file still
# includes all that it uses: `make lint` looks at it without these. The flag is for ccache.
function(backburn_precompile target)
  target_precompile_headers(${target} ${ARGN})
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND NOT CMAKE_DISABLE_PRECOMPILE_HEADERS)
    target_compile_options(${target} PRIVATE -fpch-preprocess)
  endif()
endfunction()

# backburn_room(NAME [ROOMS room...] [LIBRARIES lib...])
function(backburn_room name)
  cmake_parse_arguments(arg "" "" "ROOMS;LIBRARIES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/backburn/${name}/*.cc)
  if(sources)
    add_library(room_${name} STATIC ${sources})
    set(scope PUBLIC)
    backburn_compile(room_${name})
  else()
    add_library(room_${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(room_${name} ${scope} ${CMAKE_SOURCE_DIR}/src)
  list(TRANSFORM arg_ROOMS PREPEND room::)
  list(TRANSFORM arg_LIBRARIES PREPEND lib::)
  target_link_libraries(room_${name} ${scope} ${arg_ROOMS} ${arg_LIBRARIES})
  add_library(room::${name} ALIAS room_${name})
endfunction()

# backburn_embed(NAME folder...): `lib::embedded_NAME`, whose function
# backburn::embedded_file("data/x.jsonl") returns the bytes of a file of those folders.
function(backburn_embed name)
  set(inputs "")
  foreach(folder ${ARGN})
    file(GLOB_RECURSE files CONFIGURE_DEPENDS ${folder}/*)
    list(APPEND inputs ${files})
  endforeach()
  set(output ${CMAKE_BINARY_DIR}/embedded_${name}.cc)
  add_custom_command(
    OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${output} -DROOT=${CMAKE_SOURCE_DIR} "-DINPUTS=${inputs}" -P ${CMAKE_SOURCE_DIR}/cmake/embed.cmake
    DEPENDS ${inputs} ${CMAKE_SOURCE_DIR}/cmake/embed.cmake
    VERBATIM)
  add_library(embedded_${name} STATIC ${output})
  target_include_directories(embedded_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
endfunction()
