// Marks the functions that python finds in the libraries.
#pragma once

#if defined(_WIN32)
#define POSE_EXPORT extern "C" __declspec(dllexport)
#else
#define POSE_EXPORT extern "C" __attribute__((visibility("default")))
#endif
