// An echo and broadcast server as the examples of uWebSockets show them (https://github.com/uNetworking/uWebSockets,
// EchoServer.cpp, BroadcastingEchoServer.cpp and UpgradeSync.cpp).
//
// /echo answers. /broadcast/TOPIC is the library's own publish and subscribe: every message goes verbatim to
// everybody on the topic, its sender included. Choices, and why:
//
// - scripts/compare-peers compiles it with the flags of the library's own build: -O3, -march=native and link-time
//   optimization. TLS and zlib are left out, which nothing here would use. The event loop is epoll, its default.
// - TCP_NODELAY is on, as the library sets it by itself.
// - Nothing is compressed, as is the library's default and uproar's only way.
// - A receiver may have 1 MiB waiting, as with uproar, before messages to it are dropped. loadgen sees what is lost.
// - Everything else is the library's default.

#include <cstdlib>
#include <iostream>
#include <string>

#include "App.h"

namespace {

constexpr unsigned int kBackpressureBytesMax = 1 << 20;

struct Client {};

struct Member {
    std::string topic;
};

}  // namespace

int main(int argc, char **argv) {
    const int port = argc == 2 ? std::atoi(argv[1]) : 0;
    if (port <= 0 || port > 65535) {
        std::cerr << "usage: peer-uwebsockets PORT\n";
        return 2;
    }

    uWS::App app;
    app.ws<Client>("/echo", {
        .compression = uWS::DISABLED,
        .maxBackpressure = kBackpressureBytesMax,
        .message = [](auto *ws, std::string_view message, uWS::OpCode opcode) { ws->send(message, opcode); },
    });
    app.ws<Member>("/broadcast/:topic", {
        .compression = uWS::DISABLED,
        .maxBackpressure = kBackpressureBytesMax,
        .upgrade = [](auto *response, auto *request, auto *context) {
            response->template upgrade<Member>({std::string(request->getParameter(0))},
                                               request->getHeader("sec-websocket-key"),
                                               request->getHeader("sec-websocket-protocol"),
                                               request->getHeader("sec-websocket-extensions"), context);
        },
        .open = [](auto *ws) { ws->subscribe(ws->getUserData()->topic); },
        .message = [&app](auto *ws, std::string_view message, uWS::OpCode opcode) {
            app.publish(ws->getUserData()->topic, message, opcode);
        },
    });
    app.listen("127.0.0.1", port, [port](auto *socket) {
        if (!socket) {
            std::cerr << "cannot listen on port " << port << '\n';
            std::exit(1);
        }
    });
    app.run();
}
