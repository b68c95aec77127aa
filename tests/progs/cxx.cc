// Exceptions, threads, iostreams, containers.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <iostream>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

static int depth(int n)
{
    struct guard {
        ~guard() { count()++; }
        static int &count()
        {
            static int c;
            return c;
        }
    } g;
    if (n == 0)
        throw std::runtime_error("deep enough");
    return depth(n - 1) + 1;
}

int main(int argc, char **argv)
{
    try {
        depth(100);
    } catch (const std::exception &e) {
        std::cout << "caught: " << e.what() << "\n";
    }
    std::vector<std::thread> ts;
    std::atomic<long> sum{0};
    for (int i = 0; i < 8; i++)
        ts.emplace_back([i, &sum] {
            for (int j = 0; j < 1000; j++)
                try {
                    if (j % 10 == 0)
                        throw i;
                    sum += 1;
                } catch (int k) {
                    sum += k;
                }
        });
    for (auto &t : ts)
        t.join();
    std::cout << "sum " << sum << "\n";
    auto f = std::async(std::launch::async, [] {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        return std::string("from another thread");
    });
    std::cout << f.get() << "\n";
    std::map<std::string, int> m;
    std::string w;
    while (std::cin >> w)
        m[w]++;
    for (auto &p : m)
        std::cout << p.first << " " << p.second << "\n";
    if (argc > 1)
        throw std::logic_error("nobody catches this");
    return 0;
}
