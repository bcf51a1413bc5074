// CUDA's driver in the processor's memory, as far as the package calls it: a `libcuda.so.1` for machines without a GPU.
// Its kernels are those of the package, compiled by g++. Work runs when it is enqueued, or is recorded. Misuse that a
// GPU punishes (a freed address, a missing context, a wait inside a recording) is answered with CUDA's own errors.
#include <cuda.h>

#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "host_kernels.cpp"

namespace {
using Work = std::function<CUresult()>;
struct Graph { std::vector<Work> work; };
struct Stream { bool capturing = false, spoiled = false; std::vector<Work> work; CUresult sticky = CUDA_SUCCESS; };
struct Function { std::string name; };

std::mutex lock;
std::map<CUdeviceptr, size_t> live;  // device memory and mapped host memory
std::map<void*, size_t> host;
std::map<std::string, Function> functions;
int retained = 0;
char context_object;
thread_local std::vector<CUcontext> stack;

bool has_context() { return !stack.empty() && retained > 0; }

bool is_live(CUdeviceptr address, size_t bytes) {
    std::lock_guard<std::mutex> guard(lock);
    auto after = live.upper_bound(address);
    if (after == live.begin()) return false;
    --after;
    return address + bytes <= after->first + after->second;
}

CUresult enqueue(CUstream handle, Work work) {
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    auto* stream = reinterpret_cast<Stream*>(handle);
    if (stream->capturing) { stream->work.push_back(std::move(work)); return CUDA_SUCCESS; }
    if (stream->sticky != CUDA_SUCCESS) return stream->sticky;
    stream->sticky = work();
    return CUDA_SUCCESS;
}

template <typename Logit>
CUresult run_masks(void (*kernel)(const Logit*, unsigned char*, int, int, int, int, int, int, int), CUdeviceptr logits,
                   CUdeviceptr masks, int batch, const int* n) {
    const size_t read = sizeof(Logit) * batch * n[0] * n[1] * n[2], written = static_cast<size_t>(batch) * n[3] * n[4];
    if (!is_live(logits, read) || !is_live(masks, written)) return CUDA_ERROR_ILLEGAL_ADDRESS;
    kernel(reinterpret_cast<const Logit*>(logits), reinterpret_cast<unsigned char*>(masks), batch, n[0], n[1], n[2], n[3],
           n[4], n[5]);
    return CUDA_SUCCESS;
}

template <typename Value>
CUresult run_head(void (*kernel)(const unsigned char*, const int*, const Value*, Value*, const int*), const CUdeviceptr* at,
                  const int* n) {
    // Rows and columns of the picture are the largest that the table names.
    const auto* table = reinterpret_cast<const int*>(at[1]);
    const int columns = n[9], rows = n[8], out = n[4] * n[5] * (n[12] == 1 ? n[2] : n[12]);
    if (!is_live(at[1], 16 * (columns + rows))) return CUDA_ERROR_ILLEGAL_ADDRESS;
    int width = 0, height = 0;
    for (int index = 0; index < columns + rows; ++index) {
        const int* taps = table + 4 * index;
        const int end = n[10] == HEAD_BILINEAR ? (taps[0] > taps[1] ? taps[0] : taps[1]) + 1 : taps[0] + taps[1];
        int& side = index < columns ? width : height;
        side = end > side ? end : side;
    }
    const size_t read = static_cast<size_t>(height - 1) * n[0] + static_cast<size_t>(width) * n[1];
    if (!is_live(at[0], read) || !is_live(at[2], 256 * n[2] * sizeof(Value)) || !is_live(at[3], out * sizeof(Value))) {
        return CUDA_ERROR_ILLEGAL_ADDRESS;
    }
    kernel(reinterpret_cast<const unsigned char*>(at[0]), table, reinterpret_cast<const Value*>(at[2]),
           reinterpret_cast<Value*>(at[3]), n);
    return CUDA_SUCCESS;
}

CUresult launch_head(const std::string& name, unsigned wide, unsigned high, CUstream stream, void** values) {
    std::vector<CUdeviceptr> at;
    std::vector<int> n;
    for (int index = 0; index < 4; ++index) at.push_back(*static_cast<CUdeviceptr*>(values[index]));
    for (int index = 4; index < 17; ++index) n.push_back(*static_cast<int*>(values[index]));
    if (wide < static_cast<unsigned>(n[5]) || high < static_cast<unsigned>(n[4])) return CUDA_ERROR_INVALID_VALUE;
    if (name == "head_int8") return enqueue(stream, [=] { return run_head(head_int8, at.data(), n.data()); });
    if (name == "head_half") return enqueue(stream, [=] { return run_head(head_half, at.data(), n.data()); });
    if (name == "head_float") return enqueue(stream, [=] { return run_head(head_float, at.data(), n.data()); });
    return CUDA_ERROR_NOT_FOUND;
}
}  // namespace

#undef cuEventElapsedTime  // CUDA 13 has a second version; drivers keep the first
extern "C" {
CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int* version) { *version = 13000; return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice* device, int) { *device = 0; return CUDA_SUCCESS; }
CUresult cuDeviceGetName(char* name, int length, CUdevice) { std::strncpy(name, "processor", length); return CUDA_SUCCESS; }
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
    *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR   ? 8
             : attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR ? 7
                                                                         : 0;
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
    ++retained;
    *context = reinterpret_cast<CUcontext>(&context_object);
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) { return --retained < 0 ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS; }
CUresult cuCtxPushCurrent_v2(CUcontext context) { stack.push_back(context); return CUDA_SUCCESS; }
CUresult cuCtxPopCurrent_v2(CUcontext* context) {
    if (stack.empty()) return CUDA_ERROR_INVALID_CONTEXT;
    *context = stack.back();
    stack.pop_back();
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext* context) { *context = stack.empty() ? nullptr : stack.back(); return CUDA_SUCCESS; }
CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
    std::lock_guard<std::mutex> guard(lock);
    *total = size_t{1} << 33;
    *free = *total;
    for (auto& [address, bytes] : live) *free -= bytes;
    for (auto& [address, bytes] : host) *free -= bytes;
    return CUDA_SUCCESS;
}
CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    *address = reinterpret_cast<CUdeviceptr>(std::malloc(bytes));
    std::lock_guard<std::mutex> guard(lock);
    live[*address] = bytes;
    return CUDA_SUCCESS;
}
CUresult cuMemFree_v2(CUdeviceptr address) {
    std::lock_guard<std::mutex> guard(lock);
    if (!live.erase(address)) return CUDA_ERROR_INVALID_VALUE;
    std::free(reinterpret_cast<void*>(address));
    return CUDA_SUCCESS;
}
CUresult cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    *pointer = std::malloc(bytes);
    std::lock_guard<std::mutex> guard(lock);
    host[*pointer] = bytes;
    return CUDA_SUCCESS;
}
CUresult cuMemFreeHost(void* pointer) {
    std::lock_guard<std::mutex> guard(lock);
    live.erase(reinterpret_cast<CUdeviceptr>(pointer));
    if (!host.erase(pointer)) return CUDA_ERROR_INVALID_VALUE;
    std::free(pointer);
    return CUDA_SUCCESS;
}
CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* address, void* pointer, unsigned) {
    std::lock_guard<std::mutex> guard(lock);
    *address = reinterpret_cast<CUdeviceptr>(pointer);
    live[*address] = host[pointer];
    return CUDA_SUCCESS;
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
    return enqueue(stream, [=] {
        if (!is_live(to, bytes)) return CUDA_ERROR_ILLEGAL_ADDRESS;
        std::memcpy(reinterpret_cast<void*>(to), from, bytes);
        return CUDA_SUCCESS;
    });
}
CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return enqueue(stream, [=] {
        if (!is_live(from, bytes)) return CUDA_ERROR_ILLEGAL_ADDRESS;
        std::memcpy(to, reinterpret_cast<void*>(from), bytes);
        return CUDA_SUCCESS;
    });
}
CUresult cuStreamCreate(CUstream* stream, unsigned) {
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    *stream = reinterpret_cast<CUstream>(new Stream);
    return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream handle) {
    auto* stream = reinterpret_cast<Stream*>(handle);
    if (stream->capturing) { stream->spoiled = true; return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED; }
    return stream->sticky;
}
CUresult cuStreamDestroy_v2(CUstream stream) { delete reinterpret_cast<Stream*>(stream); return CUDA_SUCCESS; }
CUresult cuEventCreate(CUevent* event, unsigned) { *event = reinterpret_cast<CUevent>(new CUstream); return CUDA_SUCCESS; }
CUresult cuEventRecord(CUevent event, CUstream stream) { *reinterpret_cast<CUstream*>(event) = stream; return CUDA_SUCCESS; }
CUresult cuEventSynchronize(CUevent event) { return reinterpret_cast<Stream*>(*reinterpret_cast<CUstream*>(event))->sticky; }
CUresult cuEventElapsedTime(float* ms, CUevent, CUevent) { *ms = 1; return CUDA_SUCCESS; }
CUresult cuEventDestroy_v2(CUevent event) { delete reinterpret_cast<CUstream*>(event); return CUDA_SUCCESS; }
CUresult cuModuleLoadData(CUmodule* module, const void* image) {
    const char* bytes = static_cast<const char*>(image);
    if (std::memcmp(bytes, "\x7f" "ELF", 4) && !std::strstr(bytes, ".version")) return CUDA_ERROR_INVALID_IMAGE;
    *module = reinterpret_cast<CUmodule>(new char);
    return CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction* function, CUmodule, const char* name) {
    std::lock_guard<std::mutex> guard(lock);
    functions[name] = Function{name};
    *function = reinterpret_cast<CUfunction>(&functions[name]);
    return CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule module) { delete reinterpret_cast<char*>(module); return CUDA_SUCCESS; }
CUresult cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned, unsigned, CUstream stream, void** values, void**) {
    const std::string name = reinterpret_cast<Function*>(handle)->name;
    if (name.rfind("head_", 0) == 0) return launch_head(name, grid_x * block_x, grid_y * block_y, stream, values);
    const int batch = grid_z;
    const auto logits = *static_cast<CUdeviceptr*>(values[0]), masks = *static_cast<CUdeviceptr*>(values[1]);
    std::vector<int> n;
    for (int index = 2; index < 8; ++index) n.push_back(*static_cast<int*>(values[index]));
    if (4 * grid_x * block_x < static_cast<unsigned>(n[4]) || grid_y * block_y < static_cast<unsigned>(n[3])) return CUDA_ERROR_INVALID_VALUE;
    if (name == "tail_masks") return enqueue(stream, [=] { return run_masks(tail_masks, logits, masks, batch, n.data()); });
    if (name == "tail_masks_half") return enqueue(stream, [=] { return run_masks(tail_masks_half, logits, masks, batch, n.data()); });
    return CUDA_ERROR_NOT_FOUND;
}
CUresult cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode) {
    auto* stream = reinterpret_cast<Stream*>(handle);
    stream->capturing = true;
    stream->spoiled = false;
    stream->work.clear();
    return CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph) {
    auto* stream = reinterpret_cast<Stream*>(handle);
    stream->capturing = false;
    *graph = nullptr;
    if (stream->spoiled) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    *graph = reinterpret_cast<CUgraph>(new Graph{stream->work});
    return CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph, unsigned long long) {
    *executable = reinterpret_cast<CUgraphExec>(new Graph(*reinterpret_cast<Graph*>(graph)));
    return CUDA_SUCCESS;
}
CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
    for (auto& work : reinterpret_cast<Graph*>(executable)->work) {
        if (auto status = enqueue(stream, work)) return status;
    }
    return CUDA_SUCCESS;
}
CUresult cuGraphExecDestroy(CUgraphExec executable) { delete reinterpret_cast<Graph*>(executable); return CUDA_SUCCESS; }
CUresult cuGraphDestroy(CUgraph graph) { delete reinterpret_cast<Graph*>(graph); return CUDA_SUCCESS; }
CUresult cuGetErrorName(CUresult status, const char** name) {
    *name = status == CUDA_ERROR_ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_UNKNOWN";
    return CUDA_SUCCESS;
}
}
