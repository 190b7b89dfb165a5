#include "tests/support/process.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>

#include "runtime/core/check.h"

namespace stemfabric::test {
namespace {

std::string content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// In the child: output to a file. Only calls that are safe after fork.
void redirect(int descriptor, const char* path) {
  const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (file < 0 || dup2(file, descriptor) < 0) {
    _exit(126);
  }
  close(file);
}

}  // namespace

Process::Process(const std::vector<std::string>& argv, const std::filesystem::path& folder) {
  std::vector<char*> pointers;
  for (const auto& arg : argv) {
    pointers.push_back(const_cast<char*>(arg.c_str()));
  }
  pointers.push_back(nullptr);
  const std::string out = outputs_ / "out";
  const std::string err = outputs_ / "err";
  const std::string where = folder.string();
  pid_ = fork();
  SF_CHECK(pid_ >= 0, "fork");
  if (pid_ == 0) {
    redirect(STDOUT_FILENO, out.c_str());
    redirect(STDERR_FILENO, err.c_str());
    if (!where.empty() && chdir(where.c_str()) != 0) {
      _exit(126);
    }
    execv(pointers[0], pointers.data());
    _exit(127);
  }
}

Process::~Process() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
}

bool Process::running() const {
  siginfo_t info{};
  SF_CHECK(waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0);
  return info.si_pid == 0;
}

void Process::signal(int number) const { SF_CHECK(kill(pid_, number) == 0, "kill {}", number); }

ProcessResult Process::wait() {
  int status = 0;
  SF_CHECK(waitpid(pid_, &status, 0) == pid_, "waitpid");
  pid_ = -1;
  return {.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          .out = content(outputs_ / "out"),
          .err = content(outputs_ / "err")};
}

ProcessResult run_process(const std::vector<std::string>& argv,
                          const std::filesystem::path& folder) {
  return Process(argv, folder).wait();
}

}  // namespace stemfabric::test
